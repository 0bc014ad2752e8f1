# llm, a chat program for the terminal (PyPI: llm): an answer, a picture with its question, a conversation, a schema.
set -euo pipefail
export LLM_USER_PATH=$(mktemp -d)
cat > "$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- model_id: local
  model_name: default
  api_base: $URL
  vision: true
  audio: true
  supports_schema: true
YAML
llm keys set openai --value none
llm -m local "Two plus two?" -o max_tokens 8 > /dev/null
llm -c "And three?" -o max_tokens 8 > /dev/null
llm -m local "What do you hear?" -a "$MEDIA/tone.wav" -o max_tokens 8 --no-stream > /dev/null
llm -m local "Is it loud?" --schema 'loud bool' -o max_tokens 60 | grep -q '"loud"'
llm --version
