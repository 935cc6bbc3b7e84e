//! Bare Pingora with the edge's allocator.

mod bare;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    bare::main_from_args();
}
