//! Bare Pingora with the system's allocator.

mod bare;

fn main() {
    bare::main_from_args();
}
