"""Rollouts by vLLM servers: requests (`server.py`), sampling and the way of the weights (`served.py`), starting one (`command.py`)."""
