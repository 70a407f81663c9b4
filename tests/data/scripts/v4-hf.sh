export USE_HF=1 HF_ENDPOINT=https://hf-mirror.com
swift sft --model meta-llama/Llama-3.1-8B-Instruct --tuner_type lora --use_hf true --dataset tatsu-lab/alpaca#1000 \
  --hub_token hf_not_a_token --output_dir ~/runs
