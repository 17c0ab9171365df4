//! What stands between `\begin{…}` and `\end{…}`: matrices, systems of equations, functions by cases.
//!
//! Before: [`super::primary`] meets `\begin`. After: a matrix, a list of the rows, or values with conditions.

use super::{Parser, is_inequality};
use crate::math::lex::Token;
use crate::math::node::Node;

impl Parser<'_> {
    pub(super) fn environment(&mut self, name: &str) -> Option<Node> {
        let bare = name.trim_end_matches('*');
        let system = matches!(
            bare,
            "cases"
                | "aligned"
                | "align"
                | "gathered"
                | "gather"
                | "split"
                | "dcases"
                | "rcases"
                | "alignedat"
        );
        let matrix = matches!(bare, "pmatrix" | "bmatrix" | "matrix" | "Bmatrix" | "smallmatrix" | "array");
        if !(system || matrix || matches!(bare, "vmatrix" | "Vmatrix")) {
            return None;
        }
        let bars = std::mem::take(&mut self.bars);
        let rows = self.rows(system || bare == "array")?;
        self.bars = bars;
        if bare == "vmatrix" {
            return same_width(&rows).then_some(Node::Determinant(rows));
        }
        let relation = |node: &Node| matches!(node, Node::Relation(..)) || is_inequality(node);
        let condition = |node: &Node| relation(node) || matches!(node, Node::Text(_));
        let single = rows.iter().all(|row| row.len() == 1);
        if rows.len() > 1 && rows.iter().all(|row| row.len() == 2 && condition(&row[1])) {
            return Some(Node::Piecewise(rows));
        }
        if system || single && rows.iter().any(|row| relation(&row[0])) {
            return single.then(|| match rows.len() {
                1 => rows.into_iter().flatten().next(),
                _ => Some(Node::List(rows.into_iter().flatten().collect())),
            })?;
        }
        same_width(&rows).then_some(Node::Matrix(rows))
    }

    /// Cells between `&` and `\\`, up to the end. With `system`, an `&` beside a relation is for alignment only, and
    /// "if" before a condition is left out.
    fn rows(&mut self, system: bool) -> Option<Vec<Vec<Node>>> {
        let mut rows = vec![Vec::new()];
        loop {
            if system {
                self.eat('&');
            }
            let cell = match self.system_cell(system) {
                true => Node::Text("otherwise".into()),
                false => self.item()?,
            };
            rows.last_mut()?.push(cell);
            if system {
                // f(x) = 2, x > 0: the comma stands for &
                let _ = self.eat(',') || self.eat(';');
            }
            match self.peek()? {
                Token::Sign('&') => self.at += 1,
                Token::Row => {
                    self.at += 1;
                    if self.peek() == Some(&Token::End) {
                        self.at += 1;
                        return Some(rows);
                    }
                    rows.push(Vec::new());
                }
                Token::End => {
                    self.at += 1;
                    return Some(rows);
                }
                _ if system && rows.last()?.len() == 1 => {}
                _ => return None,
            }
        }
    }

    /// Whether the cell says "otherwise"; "if" and "for" are passed over.
    fn system_cell(&mut self, system: bool) -> bool {
        if system {
            while self.word_is(&["if", "for", "when", "where"]) {
                self.at += 1;
            }
        }
        let otherwise = system && self.word_is(&["otherwise", "else", "elsewhere"]);
        self.at += usize::from(otherwise);
        otherwise
    }
}

fn same_width(rows: &[Vec<Node>]) -> bool {
    rows.iter().all(|row| row.len() == rows[0].len())
}
