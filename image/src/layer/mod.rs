//! One layer's tar to one read-only disk.

mod limits;

pub use limits::Limits;
