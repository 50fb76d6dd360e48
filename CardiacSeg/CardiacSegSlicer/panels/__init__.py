"""The sections of the panel, a file each. A panel moves figures and words between widgets and logic, nothing else.

Every panel is made with the module's widget (:class:`CardiacSeg.CardiacSegWidget`), of which it uses ``ui``, ``logic``,
``parameters``, ``reading`` (None: no cine chosen), ``masks`` (as they were read last; None: there are none, or
``masksProblem`` says why they cannot be read), ``ask``, ``fail`` and ``resultsChanged``; and has
``showReading(reading)``, which is called whenever another cine is chosen or the scene has changed.
"""
