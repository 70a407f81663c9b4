swift sft --model_type internlm2-7b-chat --dataset a.jsonl
CKPT="output/internlm2-7b-chat/vx-xxx/checkpoint-xxx"
swift infer --ckpt_dir "$CKPT" --load_dataset_config true
swift export --ckpt_dir "$CKPT" --merge_lora true
