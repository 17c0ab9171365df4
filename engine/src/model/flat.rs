//! All numbers of a model in one line: weights, gradients and moments have the same layout.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::ModelConfig;
use crate::kernels::{Buffer, squared_norm};

/// Which part of the line is which parameter.
#[derive(Debug, PartialEq)]
pub struct Layout {
    parameters: Vec<(String, Vec<usize>)>,
    places: BTreeMap<String, Range<usize>>,
    total: usize,
}

impl Layout {
    /// The parameters of a configuration, in its order.
    pub fn new(config: &ModelConfig) -> Self {
        let parameters = config.parameters();
        let (mut places, mut total) = (BTreeMap::new(), 0);
        for (name, shape) in &parameters {
            let size: usize = shape.iter().product();
            places.insert(name.clone(), total..total + size);
            total += size;
        }
        Self { parameters, places, total }
    }

    /// Where a parameter lies, if there is one of that name.
    pub fn place(&self, name: &str) -> Option<Range<usize>> {
        self.places.get(name).cloned()
    }

    /// Names and shapes, in order.
    pub fn parameters(&self) -> &[(String, Vec<usize>)] {
        &self.parameters
    }

    /// Numbers in all.
    pub fn total(&self) -> usize {
        self.total
    }
}

/// One number for every weight.
#[derive(Clone)]
pub struct Flat {
    layout: Arc<Layout>,
    numbers: Buffer,
}

impl Flat {
    /// All zeros.
    pub fn zeros(layout: &Arc<Layout>) -> Self {
        Self { layout: layout.clone(), numbers: Buffer::zeros(layout.total()) }
    }

    /// What is what.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// All numbers.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// All numbers, to be changed.
    pub fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.numbers
    }

    /// Those of one parameter.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get(&self, name: &str) -> &[f32] {
        &self.numbers[self.at(name)]
    }

    /// Those of one parameter, to be changed.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get_mut(&mut self, name: &str) -> &mut [f32] {
        let place = self.at(name);
        &mut self.numbers[place]
    }

    fn at(&self, name: &str) -> Range<usize> {
        self.layout.place(name).unwrap_or_else(|| panic!("no parameter is called `{name}`"))
    }

    /// Whether there is a parameter of that name.
    pub fn has(&self, name: &str) -> bool {
        self.layout.places.contains_key(name)
    }

    /// A copy of one parameter as a tensor on the CPU.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_slice(self.get(name), shape, &Device::Cpu)
    }

    /// A copy of everything as tensors on the CPU.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let parameters = self.layout.parameters.iter();
        parameters.map(|(name, shape)| Ok((name.clone(), self.tensor(name, shape)?))).collect()
    }

    /// Σ x² of every parameter, in the order of the layout.
    pub fn squared_norms(&self) -> Vec<(&str, f64)> {
        let parameters = self.layout.parameters.iter();
        parameters.map(|(name, _)| (name.as_str(), squared_norm(self.get(name)))).collect()
    }
}
