CUDA_VISIBLE_DEVICES=0 swift sft \
  --model_type qwen2_5-7b-instruct --dataset alpaca-zh#500,alpaca-en#500 --self_cognition_sample 500 \
  --model_name 小白 --model_author 小白团队 --dtype bf16 --use_flash_attn true --eval_steps 20 \
  --logging_steps 5 --output_dir output --num_train_epochs 2
