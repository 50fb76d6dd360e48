"""What the Slicer module is made of; ``CardiacSeg.py`` only puts it together.

A folder of its own, since Slicer takes every .py file that lies directly in a module path for a module.
"""
