ARGS=(
  --model Qwen/Qwen3-8B
  --tuner_type lora          # LoRA
  --dataset "my data.jsonl" 'other.jsonl#100'
  # --dataset old.jsonl
  --system 'Say "hi"; never $5 or `ls`.'
)
ARGS+=(--output_dir output/array)
swift sft "${ARGS[@]}" "$@"
