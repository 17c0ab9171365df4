//! The program from outside: the real binary on small models.
