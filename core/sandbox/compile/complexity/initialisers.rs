//! How the tables and memories of an instance are filled before it runs.

use wasmparser::{
    ConstExpr, DataKind, DataSectionReader, ElementItems, ElementKind, ElementSectionReader,
    Operator,
};

use super::{Part, Result};

/// The weight of what is initialised by code rather than by an image: a global, a segment of data,
/// a position to put elements at.
const INITIALISED_WEIGHT: u64 = 32;

/// The same for each element of a table.
const ELEMENT_WEIGHT: u64 = 8;

/// An image of the data is made up to this size, however little is in it.
const IMAGE_ALWAYS_BYTES: u64 = 16 << 20;

/// A constant expression.
pub(super) struct Constant {
    /// Its value, if it is a plain number.
    number: Option<u64>,
    /// How many operators compute it, including the one that ends it.
    operators: u64,
}

impl Constant {
    /// What it takes.
    pub(super) fn weight(&self) -> u64 {
        if self.number.is_some() { 0 } else { INITIALISED_WEIGHT + self.operators }
    }
}

pub(super) fn constant(expression: &ConstExpr<'_>) -> Result<Constant> {
    let mut operators = expression.get_operators_reader();
    let number = match operators.read()? {
        Operator::I32Const { value } => Some(u64::from(value.cast_unsigned())),
        Operator::I64Const { value } => Some(value.cast_unsigned()),
        Operator::F32Const { .. }
        | Operator::F64Const { .. }
        | Operator::V128Const { .. }
        | Operator::RefNull { .. } => Some(0),
        _ => None,
    };
    let mut count = 1;
    while !operators.eof() {
        operators.read()?;
        count += 1;
    }
    Ok(Constant { number: number.filter(|_| count == 2), operators: count })
}

/// Plain elements at a known position of a table of its own are there from the start. Others are
/// put there by code.
pub(super) fn elements(section: &ElementSectionReader<'_>, part: &Part) -> Result<u64> {
    let mut weight = 0;
    for element in section.clone() {
        let element = element?;
        let mut by_code = false;
        if let ElementKind::Active { offset_expr, .. } = &element.kind {
            let offset = constant(offset_expr)?;
            weight += offset.weight();
            by_code = offset.number.is_none() || part.imports_table;
        }
        match element.items {
            ElementItems::Functions(functions) if by_code => {
                weight += ELEMENT_WEIGHT * u64::from(functions.count())
            }
            ElementItems::Functions(_) => {}
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    weight += ELEMENT_WEIGHT + constant(&expression?)?.operators;
                }
            }
        }
    }
    Ok(weight)
}

/// Data at known positions of a memory of its own, close together, is an image. Otherwise code
/// copies each segment.
pub(super) fn data(section: &DataSectionReader<'_>, part: &Part) -> Result<u64> {
    let (mut weight, mut segments, mut bytes, mut from, mut to) = (0, 0, 0_u64, u64::MAX, 0);
    let mut is_image = part.memories == 1 && !part.imports_memory;
    for segment in section.clone() {
        let segment = segment?;
        if let DataKind::Active { offset_expr, .. } = &segment.kind {
            let offset = constant(offset_expr)?;
            let length = segment.data.len() as u64;
            weight += offset.weight();
            segments += 1;
            bytes += length;
            match offset.number {
                Some(offset) => {
                    (from, to) = (from.min(offset), to.max(offset.saturating_add(length)))
                }
                None => is_image = false,
            }
        }
    }
    let size = to.saturating_sub(from);
    is_image &= size < IMAGE_ALWAYS_BYTES || size < 2 * bytes;
    Ok(if is_image { weight } else { weight + INITIALISED_WEIGHT * segments })
}
