"""Attention, inspected: what a trained model's heads do on a text, in numbers and pictures.

`trace` runs a text and keeps every step; `roles` says what a head looks at, beside what chance
would give; `circuits` has a head's rule over the whole alphabet; `decompose` says where a score or
a logit came from and what a head is worth; `figures` draws; `watch` is what training logs.

Layers, heads and positions are counted from 0 in the code and from 1 where a person reads them.
"""
