//! What becomes of an UPDATE.
