OUT=output/stage
swift pt --model Qwen/Qwen2.5-1.5B --train_type full --dataset corpus.jsonl --output_dir ${OUT}1 --max_steps 100 && \
swift sft --model Qwen/Qwen2.5-1.5B-Instruct --train_type lora --dataset chat.jsonl --output_dir ${OUT}2
swift rlhf --rlhf_type dpo --model Qwen/Qwen2.5-1.5B-Instruct --dataset pairs.jsonl --output_dir ${OUT}3
