CUDA_VISIBLE_DEVICES=0,1 \
accelerate launch --num_processes 2 --config_file fsdp.json \
    swift/cli/sft.py \
    --model Qwen/Qwen3-8B --tuner_type lora --dataset train.jsonl --torch_dtype bfloat16
