"""Files of web pages, which no code imports, and modules that the extension imports, which no bytecode shows."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("uwserve", includes=["**/*.html", "**/*.css", "**/*.js"])
hiddenimports = ["asyncio", "asyncio.events", "collections.abc", "os", "socket", "threading"]
