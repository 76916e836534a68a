//! A fixed random rotation: it spreads every vector evenly over the coordinates, so that signs alone say much.
//!
//! A sketch is as good on one-hot or constant vectors as on random ones, and its error obeys the bound of RaBitQ (Gao and
//! Long, SIGMOD 2024), which is proved for random rotations. Signs and Hadamard transforms make one in O(d log d).

/// Rounds of two overlapping transforms each; after two, every coordinate depends on every other.
const ROUNDS: usize = 2;

/// Coordinates are padded to a multiple of this: a byte of code.
const PADDING: usize = 8;

/// An orthogonal map that preserves dot products. The same for every index of the same dimension.
#[derive(Debug)]
pub struct Rotation {
    width: usize,
    /// Per round the signs before its first and before its second transform.
    signs: Vec<[Vec<f32>; 2]>,
}

impl Rotation {
    /// Returns the rotation for vectors of `dimension` coordinates.
    pub fn new(dimension: usize) -> Self {
        let width = dimension.next_multiple_of(PADDING);
        let mut state = 0x616d_616c_6661; // any constant will do
        let mut draw = || (0..width).map(|_| random_sign(&mut state)).collect();
        Self { width, signs: (0..ROUNDS).map(|_| [draw(), draw()]).collect() }
    }

    /// Returns the number of coordinates of a rotated vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns a vector rotated, padded with zeros before.
    pub fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let mut rotated = vec![0.0; self.width];
        self.apply_into(vector, &mut rotated);
        rotated
    }

    /// Writes a rotated vector to `out`, which is [`Self::width`] long.
    pub fn apply_into(&self, vector: &[f32], out: &mut [f32]) {
        let (head, padding) = out.split_at_mut(vector.len());
        head.copy_from_slice(vector);
        padding.fill(0.0);
        // The largest power of two that fits, once at the front and once at the back: together they cover everything.
        let size = 1 << self.width.ilog2();
        for [before_front, before_back] in &self.signs {
            flip(out, before_front);
            hadamard(&mut out[..size]);
            flip(out, before_back);
            hadamard(&mut out[self.width - size..]);
        }
    }
}

fn flip(values: &mut [f32], signs: &[f32]) {
    values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
}

/// The Walsh–Hadamard transform, scaled to keep lengths; `values` is a power of two long, at least 8.
fn hadamard(values: &mut [f32]) {
    let scale = (values.len() as f32).sqrt().recip();
    let (eights, _) = values.as_chunks_mut::<8>();
    // The three shortest strides in registers; loops over slices suit only the longer ones.
    eights.iter_mut().for_each(|eight| *eight = strides_1_to_4(eight.map(|value| value * scale)));
    let mut half = 8;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

fn strides_1_to_4(v: [f32; 8]) -> [f32; 8] {
    let [a, b, c, d] = [v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]];
    let [e, f, g, h] = [v[0] - v[4], v[1] - v[5], v[2] - v[6], v[3] - v[7]];
    let four = |a: f32, b: f32, c: f32, d: f32| {
        let [p, q, r, s] = [a + c, b + d, a - c, b - d];
        [p + q, p - q, r + s, r - s]
    };
    let ([a, b, c, d], [e, f, g, h]) = (four(a, b, c, d), four(e, f, g, h));
    [a, b, c, d, e, f, g, h]
}

/// Returns 1 or -1 from the next number of SplitMix64.
fn random_sign(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    if (mixed ^ (mixed >> 31)) & 1 == 1 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rotation_preserves_dot_products(
            pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..500),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let rotation = Rotation::new(a.len());
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            let rotated = dot(&rotation.apply(&a), &rotation.apply(&b));
            prop_assert!((rotated - dot(&a, &b)).abs() < 1e-3, "{rotated} for {}", dot(&a, &b));
        }
    }

    #[test]
    fn a_one_hot_vector_is_spread_over_all_coordinates() {
        let rotation = Rotation::new(384);
        for at in 0..384 {
            let mut vector = vec![0.0; 384];
            vector[at] = 1.0;
            let largest = rotation.apply(&vector).into_iter().fold(0.0, |a: f32, b| a.max(b.abs()));
            assert!(largest < 0.35, "coordinate {at} is still {largest}");
        }
    }
}
