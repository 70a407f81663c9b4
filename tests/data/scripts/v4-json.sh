swift sft --model Qwen/Qwen2.5-7B-Instruct --tuner_type full --dataset a.jsonl \
  --lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs '{"min_lr": 1e-6}' \
  --fsdp_config "{\"min_num_params\": 0, \"transformer_layer_cls_to_wrap\": [\"Qwen2DecoderLayer\"]}" --learning_rate 2e-5
