//! A list of scopes holds what it names and nothing else, and written anew it is the same list.
#![no_main]

use tmcp_edge::model::{Scope, ScopeSet};

libfuzzer_sys::fuzz_target!(|list: &str| {
    let set = ScopeSet::from_list(list);
    for scope in Scope::ALL {
        assert_eq!(set.contains(*scope), list.split(' ').any(|name| name == scope.as_str()));
    }
    assert_eq!(ScopeSet::from_list(&set.to_string()), set);
});
