use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process, and those that it starts from now on, have so many files open.
///
/// # Panics
/// When the system does not allow that.
#[track_caller]
pub fn open_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(count);
        setrlimit(Resource::Nofile, limit).expect("a higher limit of open files");
    }
}
