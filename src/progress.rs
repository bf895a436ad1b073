//! A Watch that draws a bar, and the flag that Ctrl-C sets.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use formats::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// What the process ends with at the second signal, as a shell would say it of SIGINT.
const SECOND: i32 = 130;

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes Ctrl-C and SIGTERM stop the work instead of the process, so that nothing half-written
/// stays. A second one ends the process at once.
pub(crate) fn catch_signals() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Without a handler a signal ends the process, as it always does. The first one finds
        // nothing to end, and sets the flag for the second.
        let _ = flag::register_conditional_shutdown(signal, SECOND, STOPPED.clone());
        let _ = flag::register(signal, STOPPED.clone());
    }
}

/// Whether a signal has said stop.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Waits. `Err` as soon as a signal says stop.
pub(crate) fn sleep(time: Duration) -> std::io::Result<()> {
    let mut left = time;
    while !left.is_zero() {
        if is_stopped() {
            return Err(std::io::Error::other("stopped before the end"));
        }
        let step = left.min(Duration::from_millis(100));
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// Tells how far the work is, where somebody wants to know, and when to stop.
pub(crate) struct Progress {
    look: Look,
}

enum Look {
    Silent,
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere: a line every ten per cent, the last of which was this one.
    Lines(AtomicU64),
}

impl Progress {
    /// Shows something if `wanted`.
    pub(crate) fn new(wanted: bool) -> Progress {
        let look = match wanted {
            false => Look::Silent,
            true if std::io::stderr().is_terminal() => Look::Bar(bar()),
            true => Look::Lines(AtomicU64::new(0)),
        };
        Progress { look }
    }
}

fn bar() -> ProgressBar {
    let template =
        "{percent:>3}% [{wide_bar}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta_precise} left";
    let style = ProgressStyle::with_template(template).expect("the template above is well formed");
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
    bar.with_style(style.progress_chars("=> "))
}

impl Watch for Progress {
    fn progress(&self, done: u64, total: u64) -> ControlFlow<()> {
        match &self.look {
            Look::Silent => {}
            Look::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Look::Lines(last) => {
                let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(10);
                if last.fetch_max(tenths, Ordering::Relaxed) < tenths {
                    crate::report::note(&format!("{}%", tenths * 10));
                }
            }
        }
        match STOPPED.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish();
        }
    }
}
