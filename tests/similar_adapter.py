"""Similar items behind the functions that the shared check calls.

PYTHONPATH=tests python ../shared/similar/check.py similar_adapter --strict
"""

import numpy as np
import torch

from aistudio.catalogue.answers import read_answers
from aistudio.metrics.preference import PairAnswers, between
from aistudio.metrics.protocols import evaluate, hits_curve, image_level
from aistudio.metrics.protocols import item_level as rank_items
from aistudio.metrics.survey import analyse_ranks, pair_result
from aistudio.reports.embedding_map import principal_axes
from aistudio.training import triplets, vae_loss
from aistudio.training.pair_loss import pair_losses


def retrieval(query, gallery, query_labels, gallery_labels, drop, k):
    """Means over the queries that have something relevant, and the rankings."""
    items, ranked = image_level(query, gallery, query_labels, gallery_labels, drop)
    return {**evaluate(items, k), "ranked": ranked}


def retrieval_macro(query, gallery, query_labels, gallery_labels, drop, k):
    """Means of class means."""
    items, _ = image_level(query, gallery, query_labels, gallery_labels, drop)
    return evaluate(items, k, query_labels)


def item_level(embeddings, items, category_of_item, query_image_of_item, k):
    """Items ranked by their nearest image, the query's own item left out."""
    found, ranked = rank_items(embeddings, items, category_of_item, query_image_of_item, "euclidean")
    return {**evaluate(found, [1, k]), "seed_recall": hits_curve(found, k), "ranked_items": np.stack(ranked)}


def survey_pairs(csv_path, a, b):
    """Choices between two systems."""
    answers = PairAnswers.from_columns(read_answers(csv_path).columns)
    found = pair_result(between(answers, a, b))
    return {
        "share": found.share.share,
        "share_ties_half": found.share.share_ties_half,
        "sign_test_p": found.share.sign_test_p,
        "wilson_95": found.share.wilson,
        "se_respondent": found.by_respondent.se,
        "se_question": found.by_question.se,
        "se_two_way": found.both.se,
        "p_left": found.side.p_left,
        "fleiss_kappa": found.agreement.kappa,
    }


def survey_ranks(csv_path, systems):
    """Rankings of several systems."""
    found = analyse_ranks(read_answers(csv_path).columns, systems, samples=0)
    return {
        "mean_rank": found.ranks.mean_rank,
        "friedman_chi2": found.ranks.over_blocks.chi2,
        "chi2_over_respondents": found.ranks.over_respondents.chi2,
        "chi2_over_questions": found.ranks.over_questions.chi2,
        "bradley_terry": found.bradley_terry.log_strength,
        "plackett_luce": found.ranks.plackett_luce.log_strength,
    }


def triplet_loss(embeddings, labels, normalise, mining, margin, squared, nonzero_mean):
    """The loss and its gradient."""
    x = torch.tensor(embeddings, dtype=torch.float64, requires_grad=True)
    options = triplets.TripletOptions(mining, margin, normalise, squared, nonzero_mean)
    loss = triplets.triplet_loss(x, torch.tensor(labels), options).loss
    loss.backward()
    return loss.item(), x.grad.numpy()


def triplet_counts(embeddings, labels, normalise, margin):
    """How many triplets are hard, semi-hard and easy."""
    return triplets.triplet_counts(torch.tensor(embeddings), torch.tensor(labels), margin, normalise)


def pair_loss(score_a, score_b, label):
    """One loss per pair."""
    return pair_losses(torch.tensor(score_a), torch.tensor(score_b), torch.tensor(label)).numpy()


def kl(mu, logvar):
    """One number per image."""
    return vae_loss.kl_divergence(torch.tensor(mu), torch.tensor(logvar)).numpy()


def bce(x, reconstruction):
    """One number per image."""
    return vae_loss.bce(torch.tensor(x), torch.tensor(reconstruction)).numpy()


def half_squared_error(x, reconstruction):
    """One number per image."""
    return vae_loss.half_squared_error(torch.tensor(x), torch.tensor(reconstruction)).numpy()


def pca(x, axes):
    """Coordinates and shares of variance."""
    return principal_axes(x, axes)
