//! VHDX.
fn main() {}
