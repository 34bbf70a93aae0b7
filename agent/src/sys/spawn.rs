//! System calls of the spawn helper.
