"""For tests here and in other packages: tiny models (`pico`), item fields with a planted optimum (`landscapes`), and
one contract test class for each kind of extension.

Each contract class says what evomerge relies on. Subclass it in your own tests, say how to create your object, and
pytest runs the rest. Nothing else in the package imports this one, and it needs pytest.
"""
