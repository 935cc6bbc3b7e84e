//! Whatever a backup file holds, reading it ends with a record, an end or an error; what reads well is written alike.
#![no_main]

use tmcp_edge::store::archive::{Reader, Writer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::begin(bytes) else { return };
    let mut writer = Writer::begin(Vec::new(), reader.taken()).unwrap();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => writer.add(&record).unwrap(),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    assert_eq!(writer.finish().unwrap().0, bytes);
});
