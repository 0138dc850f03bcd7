//! The help screen for the keys.

use ratatui::{Frame, layout::Rect, widgets::Paragraph};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Paragraph::new(TEXT), area);
}

const TEXT: &str = "\
↑ ↓ j k      the platform before, after      PgUp PgDn space   a page
g G          the first, the last             Enter             all of one
/            only what contains a text: in name, plugin, message or label=value
f            only what is unhealthy or failing
Esc          back to the list; there, all platforms again
1 2 3 4 s    sort by status, name, duration, since; the next of them
c            check the selected platform now
b            its breaker: hold it open or closed, release or reset it
q ctrl-c     quit

✗ failing: nobody can tell   ! unhealthy   ~ degraded   · no check yet   ✓ healthy
stale: the last result is old   held: an operator holds the breaker
c and b need a host that was started with --web.enable-lifecycle.
";
