//! Remembering verdicts.
