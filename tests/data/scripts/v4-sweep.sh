for lr in 1e-4 5e-5; do
  for rank in 8 16
  do
    swift sft --model Qwen/Qwen3-0.6B --tuner_type lora --dataset a.jsonl --learning_rate $lr --lora_rank "$rank" \
      --output_dir "output/lr-$lr-r$rank"
  done
done
