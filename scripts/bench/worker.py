"""A measurement in a process of its own: `worker.py MODULE.FUNCTION ARGUMENTS`, the latter as JSON.

Calls the function of a module beside this one. The last line of stdout is one JSON object, the raw
numbers that the function returned. `gpt` is the copy that the harness made.
"""

import importlib
import json
import sys

from sizes import Shape

module, _, function = sys.argv[1].partition(".")
arguments = json.loads(sys.argv[2])
if "shape" in arguments:
    arguments["shape"] = Shape(*arguments["shape"])
print(json.dumps(getattr(importlib.import_module(module), function)(**arguments)))
