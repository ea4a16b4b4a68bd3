//! What a component may consist of before the compiler sees it.
//!
//! Some code of a few kilobytes takes the compiler minutes or gigabytes: loops in loops, variables
//! that live across thousands of branches, one endless function, copies of copies. Each is counted
//! here, in one pass, and refused beyond a bound of its own. The bounds leave room above the
//! largest honest code known: interpreters of Python, JavaScript and Ruby, programs in Go,
//! unoptimised Rust.

mod initialisers;

use std::fmt::Display;

use wasmparser::{
    BinaryReader, BinaryReaderError, CompositeInnerType, FuncToValidate, FuncValidatorAllocations,
    FunctionBody, Operator, Parser, Payload, TypeRef, TypeSectionReader, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

use self::initialisers::{constant, data, elements};

/// Functions, function types and adapters of the whole file. Each becomes one or several functions
/// of machine code.
const FUNCTIONS_MAX: u64 = 50_000;

/// Entries of all sections together.
const ENTRIES_MAX: u64 = 500_000;

/// Components in components.
const DEPTH_MAX: u64 = 16;

/// Instances of components. Those in instances count as often as these do.
const INSTANCES_MAX: u64 = 1_000_000;

/// Memories. An image of up to 16 MiB is made of each.
const MEMORIES_MAX: u64 = 8;

/// Elements that all tables begin with, together.
const ELEMENTS_MAX: u64 = 1_000_000;

/// Parameters and results of a function or a block.
const ARITY_MAX: u64 = 255;

/// The weight of one function: its operators, their operands, its variables. A unit is at most a
/// kilobyte of the compiler's memory.
const FUNCTION_WEIGHT_MAX: u64 = 750_000;

/// The same for the whole file.
const WEIGHT_MAX: u64 = 64_000_000;

/// Values of a function that may have to be kept at once: its variables, and what is on its stack.
const VALUES_MAX: u64 = 2_000;

/// Ways that a function can take: its blocks and the targets of its branches.
const WAYS_MAX: u64 = 40_000;

/// Ways times variables. Where ways meet there may be a new version of each variable.
const VERSIONS_MAX: u64 = 2_000_000;

/// Why a component is not compiled.
pub(super) enum Refusal {
    Invalid(BinaryReaderError),
    /// What there is too much of.
    TooMuch(String),
}

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

type Result<T = ()> = std::result::Result<T, Refusal>;

fn at_most(most: u64, found: u64, what: impl Display) -> Result {
    if found <= most {
        return Ok(());
    }
    Err(Refusal::TooMuch(format!("{found} {what}, {most} at most")))
}

/// Validates a component and measures it.
pub(super) fn check(bytes: &[u8]) -> Result {
    let mut survey = Survey {
        validator: Validator::new_with_features(WasmFeatures::all()),
        allocations: FuncValidatorAllocations::default(),
        open: Vec::new(),
        entries: 0,
        functions: 0,
        weight: 0,
        memories: 0,
        elements: 0,
        instances: 1,
    };
    for payload in Parser::new(0).parse_all(bytes) {
        survey.take(bytes, &payload?)?;
    }
    Ok(())
}

/// What was counted so far.
struct Survey {
    validator: Validator,
    allocations: FuncValidatorAllocations,
    /// The components and modules being read, the innermost last.
    open: Vec<Part>,
    entries: u64,
    functions: u64,
    weight: u64,
    memories: u64,
    elements: u64,
    /// How often any one component may be instantiated: at most the product of what each component
    /// instantiates.
    instances: u64,
}

/// A component or a core module.
#[derive(Default)]
struct Part {
    instantiated: u64,
    imports_memory: bool,
    imports_table: bool,
    memories: u64,
    /// The weight of the function that initialises a module.
    start_weight: u64,
}

impl Survey {
    fn take(&mut self, bytes: &[u8], payload: &Payload<'_>) -> Result {
        self.count(bytes, payload)?;
        match self.validator.payload(payload)? {
            ValidPayload::Func(function, body) => return self.function(function, &body),
            ValidPayload::End(_) => return self.end(),
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
        self.weigh(payload)
    }

    /// Counts a section's entries before anything of it is kept.
    fn count(&mut self, bytes: &[u8], payload: &Payload<'_>) -> Result {
        if let Payload::Version { .. } = payload {
            self.open.push(Part::default());
            at_most(DEPTH_MAX, self.open.len() as u64, "components in one another")?;
        }
        // A section begins with the number of its entries, or with another small number.
        let section =
            payload.as_section().and_then(|(_, range)| bytes.get(range)).unwrap_or_default();
        self.entries += u64::from(BinaryReader::new(section, 0).read_var_u32().unwrap_or_default());
        at_most(ENTRIES_MAX, self.entries, "entries in its sections")?;
        self.functions += match payload {
            Payload::FunctionSection(section) => u64::from(section.count()),
            Payload::TypeSection(section) => u64::from(section.count()),
            Payload::ComponentCanonicalSection(section) => u64::from(section.count()),
            _ => 0,
        };
        at_most(FUNCTIONS_MAX, self.functions, "functions and function types")
    }

    /// Weighs a section that is valid.
    fn weigh(&mut self, payload: &Payload<'_>) -> Result {
        let Some(part) = self.open.last_mut() else { return Ok(()) };
        match payload {
            Payload::ComponentInstanceSection(section) => {
                part.instantiated += u64::from(section.count())
            }
            Payload::TypeSection(section) => self.weight += types(section)?,
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Memory(_) => part.imports_memory = true,
                        TypeRef::Table(_) => part.imports_table = true,
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                part.memories += u64::from(section.count());
                self.memories += u64::from(section.count());
                at_most(MEMORIES_MAX, self.memories, "memories")?;
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.elements = self.elements.saturating_add(table?.ty.initial);
                }
                at_most(ELEMENTS_MAX, self.elements, "elements in its tables")?;
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    part.start_weight += constant(&global?.init_expr)?.weight();
                }
            }
            Payload::ElementSection(section) => part.start_weight += elements(section, part)?,
            Payload::DataSection(section) => part.start_weight += data(section, part)?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result {
        let Some(part) = self.open.pop() else { return Ok(()) };
        at_most(
            FUNCTION_WEIGHT_MAX,
            part.start_weight,
            "units of code to initialise one core module",
        )?;
        self.instances = self.instances.saturating_mul(1 + part.instantiated);
        at_most(INSTANCES_MAX, self.instances, "instances of components")?;
        self.add(part.start_weight)
    }

    fn add(&mut self, weight: u64) -> Result {
        self.weight += weight;
        at_most(WEIGHT_MAX, self.weight, "units of code")
    }

    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result {
        let number = function.index;
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        validator.read_locals(&mut body.get_binary_reader())?;
        let variables = u64::from(validator.len_locals());
        let (mut weight, mut ways) = (variables, 0);
        // For each open block, whether it is a loop.
        let mut blocks = Vec::new();
        let mut loops = 0;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset()?;
            let (taken, given) =
                operator.operator_arity(&validator.visitor(at)).unwrap_or_default();
            validator.op(at, &operator)?;
            let targets = targets(&operator);
            weight +=
                (1 + u64::from(taken)) * targets.max(1) + u64::from(given) + own_weight(&operator);
            ways += targets;
            match operator {
                Operator::Loop { .. } => {
                    loops += 1;
                    // The compiler looks at each loop from each loop around it.
                    ways += 8 + loops;
                    blocks.push(true);
                }
                Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                    ways += 1;
                    blocks.push(false);
                }
                Operator::Else => ways += 1,
                Operator::End if blocks.pop() == Some(true) => loops -= 1,
                _ => {}
            }
            // Checked while it is read, because a function may be endless.
            at_most(
                FUNCTION_WEIGHT_MAX,
                weight,
                format_args!("units of code in function {number} of a core module"),
            )?;
            at_most(
                VALUES_MAX,
                variables + u64::from(validator.operand_stack_height()),
                format_args!("values at once in function {number} of a core module"),
            )?;
            at_most(
                WAYS_MAX,
                ways,
                format_args!("blocks and branches in function {number} of a core module"),
            )?;
        }
        at_most(
            VERSIONS_MAX,
            ways * variables,
            format_args!(
                "blocks and branches times variables in function {number} of a core module"
            ),
        )?;
        self.allocations = validator.into_allocations();
        self.add(weight)
    }
}

/// How many places the operator may go on at.
fn targets(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::BrTable { targets } => 1 + u64::from(targets.len()),
        Operator::TryTable { try_table } => try_table.catches.len() as u64,
        Operator::If { .. }
        | Operator::Br { .. }
        | Operator::BrIf { .. }
        | Operator::BrOnNull { .. }
        | Operator::BrOnNonNull { .. } => 1,
        _ => 0,
    }
}

/// What the operator takes beyond its operands, as measured. Many are calls of the runtime, with
/// checks around.
fn own_weight(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::TableInit { .. }
        | Operator::TableCopy { .. }
        | Operator::TableGrow { .. }
        | Operator::TableFill { .. } => 64,
        Operator::CallIndirect { .. }
        | Operator::ReturnCallIndirect { .. }
        | Operator::CallRef { .. }
        | Operator::ReturnCallRef { .. }
        | Operator::MemoryGrow { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryInit { .. }
        | Operator::TableGet { .. }
        | Operator::TableSet { .. } => 16,
        Operator::Call { .. }
        | Operator::ReturnCall { .. }
        | Operator::RefFunc { .. }
        | Operator::DataDrop { .. }
        | Operator::ElemDrop { .. } => 4,
        _ => 0,
    }
}

/// Each type has code that calls functions of it.
fn types(section: &TypeSectionReader<'_>) -> Result<u64> {
    let mut weight = 0;
    for group in section.clone() {
        for sub in group?.types() {
            if let CompositeInnerType::Func(function) = &sub.composite_type.inner {
                let arity = (function.params().len() + function.results().len()) as u64;
                at_most(ARITY_MAX, arity, "parameters and results of one function")?;
                weight += arity;
            }
        }
    }
    Ok(weight)
}
