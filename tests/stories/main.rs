//! Stories, each named by the behaviour that it proves.

mod smoke;
