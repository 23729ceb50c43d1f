"""The rendered book: its pages, the scoreboard, the check of its HTML, the template of a chapter.

May be changed at no cost: it shows what is stored and measures nothing.
"""
