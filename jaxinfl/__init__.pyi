# The public names of jaxinfl, and the packages that they come from. `__init__.py` reads this list, and so do type checkers.
from .brittleness import (
    Brittleness as Brittleness,
    brittleness as brittleness,
)
from .cluster import (
    Cluster as Cluster,
    ClusterError as ClusterError,
    train_on_cluster as train_on_cluster,
)
from .datasets import (
    Dataset as Dataset,
    DatasetUnavailable as DatasetUnavailable,
    channel_statistics as channel_statistics,
    load_dataset as load_dataset,
)
from .explore import (
    write_explorer as write_explorer,
)
from .influence import (
    Outcomes as Outcomes,
    influence as influence,
    iou as iou,
    iou_curve as iou_curve,
    iou_of_models as iou_of_models,
    memorization as memorization,
    pack as pack,
    top_pairs as top_pairs,
)
from .privacy import (
    Lira as Lira,
    Membership as Membership,
    Rmia as Rmia,
    epsilon_of_canary as epsilon_of_canary,
    epsilon_of_run as epsilon_of_run,
    membership as membership,
    membership_score as membership_score,
    models_for_epsilon as models_for_epsilon,
)
from .published import (
    PairsComparison as PairsComparison,
    PublishedPairs as PublishedPairs,
    PublishedScores as PublishedScores,
    compare_pairs as compare_pairs,
    compare_scores as compare_scores,
    read_pairs as read_pairs,
    read_run as read_run,
    write_run as write_run,
)
from .statistics import (
    Discoveries as Discoveries,
    Estimate as Estimate,
    ModelPlan as ModelPlan,
    agreement as agreement,
    data_banzhaf as data_banzhaf,
    datamodel_weights as datamodel_weights,
    discoveries as discoveries,
    estimate as estimate,
    LdsPlan as LdsPlan,
    lds as lds,
    leave_one_out_correlation as leave_one_out_correlation,
    memorization_uncertainty as memorization_uncertainty,
    models_for_influence as models_for_influence,
    models_needed as models_needed,
    models_needed_for_good as models_needed_for_good,
    models_needed_sequentially as models_needed_sequentially,
    pair_uncertainty as pair_uncertainty,
    plan as plan,
    plan_lds as plan_lds,
    variance_components as variance_components,
)
from .store import (
    Ensemble as Ensemble,
    RunDirectoryError as RunDirectoryError,
    WriteFailed as WriteFailed,
)
from .subsets import (
    check_coverage as check_coverage,
    draw_subsets as draw_subsets,
    group_masks as group_masks,
    leave_one_out as leave_one_out,
)
from . import tasks as tasks
from .tasks import Task as Task
from .training import (
    Cost as Cost,
    Job as Job,
    ModelKeys as ModelKeys,
    OutOfMemory as OutOfMemory,
    Recipe as Recipe,
    TooManyDiverged as TooManyDiverged,
    predict as predict,
    recipes as recipes,
    train_ensemble as train_ensemble,
    training_cost as training_cost,
)

__version__: str
