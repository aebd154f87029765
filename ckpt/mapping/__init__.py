"""``ckpt.map``: one function over many items, on any executor. The engine, without a run and without a log.

``results`` hands results out; ``engine`` keeps items on their way, tries again, and gives finished ones to be recorded;
``pools`` and ``workers`` are where items are executed. What makes results durable is handed in (``results.Journal``).
"""
