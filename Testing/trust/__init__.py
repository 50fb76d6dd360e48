"""What the project promises, tried: broken inputs, kills, fuzzing, many studies. ``make trust`` runs all of it.

- ``cases*``: the corpus, made by code; nothing of it lies in the tree.
- ``inputs``: each case through the command line, the library and the Slicer module's input.
- ``kills``: processes killed at random moments, run again, and compared with undisturbed ones.
- ``fuzzing``: readers, the model loader and Info.cfg under random and coverage-guided inputs.
- ``__main__``: all of them at full length, resumable, with the figures at the end.
"""
