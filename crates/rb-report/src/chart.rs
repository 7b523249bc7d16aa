//! Charts: lines or bars over two axes, drawn as SVG.

use std::error::Error;
use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use crate::axis::{Axis, Shown};

/// Size of a drawing in pixels. The page scales it to its column.
const SIZE: (u32, u32) = (720, 300);
/// Colours of lines in their order, distinguishable with the common kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(228, 228, 228);
/// Fewest points between which a line is drawn without a mark for each.
const MARKS_MAX: usize = 60;

/// A line of a chart, or a group of bars.
#[derive(Clone, Debug)]
pub struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// Makes a line through points in the order of their x. Points that an axis cannot show are left out. A line without
    /// a name is not in the legend.
    #[must_use]
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line {
            name: name.to_owned(),
            points,
        }
    }
}

/// A chart with its caption and its legend.
#[derive(Clone, Debug)]
pub struct Chart {
    caption: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
    bars: bool,
}

impl Chart {
    /// Makes a chart of lines.
    #[must_use]
    pub fn new(caption: &str, x: Axis, y: Axis, lines: Vec<Line>) -> Chart {
        Chart {
            caption: caption.to_owned(),
            x,
            y,
            lines,
            bars: false,
        }
    }

    /// Draws each point as the upper right corner of a bar, which begins at the x of the point before it.
    #[must_use]
    pub fn bars(self) -> Chart {
        Chart { bars: true, ..self }
    }

    /// Returns the figure: caption, legend and drawing.
    pub(crate) fn figure(&self) -> Markup {
        let drawing = match self.draw() {
            Ok(drawing) => html! { (PreEscaped(drawing)) },
            Err(why) => html! { p { "This chart could not be drawn: " (why) } },
        };
        html! {
            figure {
                figcaption {
                    b { (self.caption) }
                    @for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()).filter(|(line, _)| !line.name.is_empty()) {
                        " " span class="key" {
                            span class="swatch" style=(format!("background:rgb({},{},{})", colour.0, colour.1, colour.2)) {}
                            (line.name)
                        }
                    }
                }
                (drawing)
            }
        }
    }

    /// Returns the points of a line in positions on the axes.
    fn positions(&self, line: &Line) -> Vec<(f64, f64)> {
        let position = |(x, y): &(f64, f64)| Some((self.x.position(*x)?, self.y.position(*y)?));
        line.points.iter().filter_map(position).collect()
    }

    fn draw(&self) -> Result<String, Box<dyn Error>> {
        let lines: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|l| self.positions(l)).collect();
        let x = self.x.shown(lines.iter().flatten().map(|(x, _)| *x));
        let y = self.y.shown(lines.iter().flatten().map(|(_, y)| *y));
        let (x_ticks, y_ticks, bottom) = (x.ticks.len().max(1), y.ticks.len().max(1), y.from);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin_top(8)
                .margin_right(28)
                .margin_bottom(4)
                .margin_left(4)
                .x_label_area_size(42)
                .y_label_area_size(72)
                .build_cartesian_2d(x, y)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(PALE)
                .axis_style(GREY)
                .label_style(("sans-serif", 15, &GREY))
                .axis_desc_style(("sans-serif", 15, &GREY))
                .x_desc(self.x.name.as_str())
                .y_desc(self.y.name.as_str())
                .x_labels(x_ticks)
                .y_labels(y_ticks)
                .x_label_formatter(&|position| self.x.label_at(*position))
                .y_label_formatter(&|position| self.y.label_at(*position))
                .draw()?;
            // The first line is on top of the others.
            let coloured = lines.into_iter().zip(COLOURS.into_iter().cycle());
            for (points, colour) in coloured.collect::<Vec<_>>().into_iter().rev() {
                if self.bars {
                    let bars = points.windows(2).map(|pair| {
                        let corners = [(pair[0].0, bottom), pair[1]];
                        Rectangle::new(corners, colour.mix(0.6).filled())
                    });
                    chart.draw_series(bars)?;
                    continue;
                }
                if points.len() <= MARKS_MAX {
                    let marks = points.iter().map(|at| Circle::new(*at, 2, colour.filled()));
                    chart.draw_series(marks)?;
                }
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            }
            area.present()?;
        }
        Ok(svg)
    }
}

impl Ranged for Shown {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (position - self.from) / (self.to - self.from);
        from + (part * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl From<Shown> for Range<f64> {
    fn from(shown: Shown) -> Range<f64> {
        shown.from..shown.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_any_numbers_is_drawn() {
        let points: [&[(f64, f64)]; 5] = [
            &[],
            &[(0.0, 0.0)],
            &[(1.0, 2.0), (2.0, 300.0)],
            &[(f64::NAN, 1.0), (1.0, f64::INFINITY), (1.0, -5.0)],
            &[(1.0, 1e300), (1e-300, 1.0)],
        ];
        for points in points {
            let line = Line::new("<b>", points.to_vec());
            for (x, y) in [
                (Axis::linear("x"), Axis::log("y<i>")),
                (Axis::log("x"), Axis::linear("y").from_zero()),
            ] {
                let chart = Chart::new("c<u>", x, y, vec![line.clone()]);
                for chart in [chart.clone(), chart.bars()] {
                    let text = chart.figure().into_string();
                    assert!(text.contains("<svg") && text.contains("</svg>"), "{text}");
                    for raw in ["<b>\n", "<i>", "<u>", "NaN"] {
                        assert!(!text.contains(raw), "{points:?}: {text}");
                    }
                }
            }
        }
    }
}
