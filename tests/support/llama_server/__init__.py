"""What llama.cpp's server tests import, over `minimind-serve`; `scripts/llama_server_tests.py` runs them."""
