//! What the system says of this process and this machine.

/// Bytes that this process has now, where the system says so: the program, the tokenizer and the prompts.
pub(crate) fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    // in steps, so that two runs of a recipe say the same
    kib.map_or(200 << 20, |kib| (kib << 10).next_multiple_of(16 << 20))
}

/// Lets the largest memory begin again at what is used now, where the system can.
pub(crate) fn forget_peak_memory() {
    // elsewhere the figure is that of the whole run so far, which is larger, not wrong
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Largest memory the process has had, in bytes, where the system says so.
pub(crate) fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}
