@echo off
rem Generate text: run.cmd "a prompt", or run.cmd --chat; --help lists the options.
"%~dp0venv\Scripts\minimind-run.exe" --engine "%~dp0artifact" %*
