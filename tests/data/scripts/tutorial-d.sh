# One data set, two models
DATA=data/train.jsonl
COMMON="--train_type lora --lora_rank 8 --per_device_train_batch_size 1 --gradient_accumulation_steps 8"
COMMON="$COMMON --learning_rate 1e-4 --num_train_epochs 1 --max_length 2048"

swift sft --model Qwen/Qwen2.5-7B-Instruct --dataset "$DATA" $COMMON --output_dir output_qwen
swift sft --model LLM-Research/Meta-Llama-3.1-8B-Instruct --dataset "$DATA" $COMMON --output_dir output_llama3
