swift sft --system $'Line one\nLine "two"\ttab\x21 \u4f60' --model 'a'"b"c\ d --dataset "" '' x"y z"'!' --name "中文 空格" \
  --run_name it\'s --tag "back\\slash \$HOME \`x\` \"q\"" --other \
  'multi
line'
