# The notebook's settings as a command; it names the model type of ms-swift 3.x
swift sft --model Qwen/Qwen3-4B-Thinking-2507 --model_type qwen3_thinking --train_type full \
  --dataset AI-ModelScope/alpaca-gpt4-data-zh#500 AI-ModelScope/alpaca-gpt4-data-en#500 swift/self-cognition#500 \
  --model_name 精衡 Jingheng --model_author 叶博韬 'YE SEVERIN' --data_seed 42 --max_length 2048 \
  --split_dataset_ratio 0.01 --dataset_num_proc 4 --learning_rate 5e-6 --per_device_train_batch_size 1 \
  --per_device_eval_batch_size 1 --gradient_accumulation_steps 32 --num_train_epochs 1 \
  --gradient_checkpointing true --weight_decay 0.1 --lr_scheduler_type cosine --warmup_ratio 0.05 \
  --report_to tensorboard --logging_first_step true --save_strategy steps --save_steps 50 --eval_strategy steps \
  --eval_steps 50 --save_total_limit 2 --logging_steps 5 --torch_dtype bfloat16 --max_grad_norm 1.0 \
  --metric_for_best_model loss --system 'You are a helpful assistant.' --output_dir output
