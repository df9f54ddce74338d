from mlvl_fairseq.evaluation.ranking import retrieval_ranks
def retrieval_scores(image_features, text_features, text_to_image, n_fold=1, normalise=True):
    i, t = retrieval_ranks(image_features, text_features, text_to_image, normalise=normalise)
    s = {f"{n}_r{k}": 100*float((r[r>=0]<k).mean()) for n,r in (("txt",i),("img",t)) for k in (1,5,10)}
    return {**s, "r_mean": sum(s.values())/6}
