swift sft --model=Qwen/Qwen2.5-0.5B-Instruct --train_type=lora --dataset=a.jsonl --max_steps=10 2>&1 | tee -a run.log
