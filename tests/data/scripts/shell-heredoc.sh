cat > /dev/null <<'EOF'
swift sft --not this
it's not read
EOF
swift sft --real 1 <<< "text" < /dev/null
# swift sft --commented out \
#   --too
swift sft --last \
  2
