@echo off
rem Serve the model by OpenAI's HTTP interface at http://127.0.0.1:8000; --help lists the options.
"%~dp0venv\Scripts\minimind-serve.exe" "%~dp0artifact" %*
