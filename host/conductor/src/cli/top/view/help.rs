//! The help screen for the keys.

use ratatui::{Frame, layout::Rect, widgets::Paragraph};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect) {
    frame.render_widget(Paragraph::new(TEXT), area);
}

const TEXT: &str = "\
↑ ↓ j k      previous, next platform         PgUp PgDn space   page
g G          first, last platform            Enter             show its details
/            filter by text in name, plugin, message or label=value
f            show only platforms that are unhealthy or whose last check failed
Esc          back to the list; in the list, show all platforms
1 2 3 4 s    sort by status, name, duration, since; s selects the next order
c            check the selected platform now
b            hold its breaker open or closed, release or reset it
q ctrl-c     quit

✗ check failed, · not checked: unknown   ! unhealthy   ~ degraded   ✓ healthy
stale: the last result is old   held: an operator holds the breaker
c and b need a host that was started with --web.enable-lifecycle.
";
