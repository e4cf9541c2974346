"""The sub-commands, which the command's parser imports by name."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("uwserve.cli")
