//! A picture of what a connection's time is made of: a bar a case, one connection after the other.

use super::cell::Cell;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

const PARTS: [(&str, RGBColor); 4] = [
    ("settings", RGBColor(0x88, 0x88, 0x88)),
    ("TCP", RGBColor(0x1b, 0x9e, 0x77)),
    ("TLS", RGBColor(0x37, 0x78, 0xb8)),
    ("CONNECT to CONNACK", RGBColor(0xe6, 0x8a, 0x2e)),
];
const WIDTH: u32 = 960;
const ROW: u32 = 26;
/// Above the first bar, for the legend, and below the last.
const MARGIN: u32 = 50;
/// Left of the bars, for the names.
const NAMES: i32 = 240;
/// Right of the bars, for the numbers.
const NUMBERS: i32 = 90;

/// Writes the picture.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn draw(path: &Path, cells: &[Cell]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let rows: Vec<&Cell> = cells.iter().filter(|cell| cell.at_once == 1).collect();
    let height = MARGIN * 2 + ROW * u32::try_from(rows.len())?;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let fault = |e: &dyn std::fmt::Display| format!("the chart: {e}");
        area.fill(&WHITE).map_err(|e| fault(&e))?;
        let font = ("sans-serif", 13).into_font();
        let say = |text: String, x: i32, y: i32| area.draw(&Text::new(text, (x, y), font.clone())).map_err(|e| fault(&e));
        for (i, (name, colour)) in PARTS.iter().enumerate() {
            let x = NAMES + 120 * i32::try_from(i)?;
            area.draw(&Rectangle::new([(x, 18), (x + 12, 30)], colour.filled())).map_err(|e| fault(&e))?;
            say((*name).to_owned(), x + 18, 18)?;
        }
        let longest = rows.iter().map(|cell| cell.parts.iter().sum::<f64>()).fold(1.0, f64::max);
        let scale = f64::from(WIDTH.cast_signed() - NAMES - NUMBERS) / longest;
        for (i, cell) in rows.iter().enumerate() {
            let y = (MARGIN + ROW * u32::try_from(i)?).cast_signed();
            say(cell.case.clone(), 10, y + 4)?;
            let mut done = 0.0;
            for ((_, colour), part) in PARTS.iter().zip(cell.parts) {
                let at = |us: f64| NAMES + (us * scale).round() as i32;
                let bar = Rectangle::new([(at(done), y), (at(done + part), y + ROW.cast_signed() - 8)], colour.filled());
                area.draw(&bar).map_err(|e| fault(&e))?;
                done += part;
            }
            say(format!("{:.0} us", cell.p50), NAMES + (done * scale).round() as i32 + 6, y + 4)?;
        }
        area.present().map_err(|e| fault(&e))?;
    }
    Ok(std::fs::write(path, svg).map_err(|e| format!("could not write {}: {e}", path.display()))?)
}
