# First the base model is asked, to see that the environment works
CUDA_VISIBLE_DEVICES=0 swift infer --model Qwen2.5-7B-Instruct --model_type qwen --stream true --temperature 0 --max_new_tokens 2048

CUDA_VISIBLE_DEVICES=0 swift sft --model Qwen2.5-7B-Instruct --train_type lora --dataset self_cognition.json \
  --torch_dtype bfloat16 --num_train_epochs 10 --per_device_train_batch_size 1 --per_device_eval_batch_size 1 \
  --learning_rate 1e-4 --lora_rank 8 --lora_alpha 32 --target_modules all-linear --gradient_accumulation_steps 16 \
  --eval_steps 50 --save_steps 50 --save_total_limit 2 --logging_steps 5 --max_length 2048 --output_dir output \
  --system 'You are a helpful assistant.' --warmup_ratio 0.05 --dataloader_num_workers 4 \
  --model_author swift --model_name swift-robot

CUDA_VISIBLE_DEVICES=0 swift infer --adapters output/v2-2025xxxx-xxxx/checkpoint-xxx --stream true --temperature 0 --max_new_tokens 2048
