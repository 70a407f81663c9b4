nohup env CUDA_VISIBLE_DEVICES=1 swift sft \
  --model ZhipuAI/glm-4-9b-chat --train_type lora --dataset train.jsonl \
  --system "You are \"Nova\", made by \$NOBODY; be brief." \
  > train.log 2>&1 &
